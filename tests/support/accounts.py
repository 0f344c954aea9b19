"""Users and groups that exist on no host."""

from unpd.access.accounts import Accounts

USERS = {"alice": 1000, "bob": 1001}
GROUPS = {"alice": 1000, "staff": 50, "admin": 51}
MEMBERS = {1000: (1000, 50, 51), 1001: (50,)}

ACCOUNTS = Accounts(USERS.__getitem__, GROUPS.__getitem__, MEMBERS.__getitem__)
