"""What is prepared for the programs of a service."""

import grp
import pwd

import pytest

from unpd.dispatcher.launch import identity_of
from unpd.kernel.privileges import Identity
from unpd.services.program import ProgramOptions

CHILDREN = Identity("daemon", pwd.getpwnam("daemon").pw_uid, "mail", grp.getgrnam("mail").gr_gid)
"""The daemon's children, with another group than that of their user."""


@pytest.mark.parametrize(
    ("keys", "user", "group"),
    [
        ({}, "daemon", "mail"),
        ({"user": "daemon"}, "daemon", "mail"),
        ({"user": "nobody"}, "nobody", grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name),
        ({"group": "daemon"}, "daemon", "daemon"),
        ({"user": "nobody", "group": "mail"}, "nobody", "mail"),
    ],
)
def test_whose_group_a_program_has(keys: dict[str, str], user: str, group: str) -> None:
    """That of the daemon's children for their user, whether it is named or not: so it
    is too where no program of the launcher has another user, and it is not root.
    """
    options = ProgramOptions.model_validate({"command": ["/bin/true"], **keys})
    found = identity_of(options, CHILDREN)
    assert (found.user, found.group) == (user, group)
