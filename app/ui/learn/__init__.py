"""The lessons of the page Learn: what each says, asks and shows."""
