"""The verbs about single services: one row each (:mod:`unpd.control.verb`)."""

from unpd.control.verb import Answered, Argument, Verb

ROWS = (
    Verb(
        name="try",
        help="start the program of a service here",
        description=(
            "Start the program of a service of type exec as the daemon starts it for a client:"
            " with its user, variables, directory, limits and sandbox, but with the standard"
            " input, output and error of this command instead of a connection,"
            " and without the variables about one."
            " The command says how the program ended, and ends it if it is interrupted itself."
            " Without a daemon the command starts the program itself,"
            " and says what differs."
        ),
        answered=Answered.LATER,
        changes=True,
        arguments=(
            Argument(
                name="service",
                type=str,
                placeholder="SERVICE",
                operand=True,
                help="the name of a service of type exec",
            ),
        ),
    ),
)
