"""Controls, cards and explanations that several pages show."""
