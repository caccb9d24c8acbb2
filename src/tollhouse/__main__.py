"""`python -m tollhouse` is `tollhouse`."""

from tollhouse.cli import main

main()
