"""The `egohand` command line: argument parsing and printing only.
What a command does lives in the packages below."""
