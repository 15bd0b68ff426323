"""What Streamlit runs for the board.

It stands here because Streamlit takes a folder `pages` beside its script for pages of its own: the
first visitor of a new server who comes by a link to a page would see nothing.
"""

from mipo_eval.dashboards.app import main

if __name__ == "__main__":
    main()
