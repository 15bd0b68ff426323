"""The tables of the board, a module a page: pandas from a store, without Streamlit."""
