"""Launch files, recording, replay, reports and the verbs of the exo command."""
