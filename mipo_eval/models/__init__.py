"""Models: who is asked, evaluated or judging, and how requests and replies look."""
