"""What every exo package needs once: errors, parameters, sessions, artefacts, frames, bags."""
