"""`python -m mipo_eval`: the command line without the installed script."""

from mipo_eval.cli import main

raise SystemExit(main())
