"""What speaks for a spurious cue or causes errors."""
