"""Parts of the pages that show one layer."""
