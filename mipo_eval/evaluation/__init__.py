"""The main job: items, responses, outcomes, and the numbers they come to."""
