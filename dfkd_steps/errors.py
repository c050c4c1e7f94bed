"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """Bad input. The message is one line or one line per fault: place, value, remedy.

    A step prints it without a traceback and exits with code 2.
    """
