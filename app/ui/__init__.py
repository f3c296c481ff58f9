"""What several pages show: controls, cards, explanations."""
