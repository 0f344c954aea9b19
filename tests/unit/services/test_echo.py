from unpd.services.echo import Echo, EchoOptions


def test_says_back() -> None:
    """Each piece is its own answer, without a copy."""
    piece = memoryview(bytes(range(256)))
    assert Echo(EchoOptions()).converse()(piece) is piece


def test_waits_for_the_client() -> None:
    """The client speaks first."""
    assert Echo(EchoOptions()).greet(0.0) == b""
