"""The board's pages: each places tables and plots that plain functions beside them make."""
