"""What stops Tollhouse and can be mended by the person who runs it."""


class Trouble(Exception):
    """Something outside the program is wrong. The message says what, and what to do about it, in whole sentences;
    the command line prints it without a traceback and leaves with status 2."""
