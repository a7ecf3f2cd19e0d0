"""The one error of the lab: what could not be done, and what to do about it."""


class LabError(Exception):
    """
    A sentence for the person at the terminal.

    The command line prints it and ends with exit code 1.
    """
