"""What the report is made of: runs and their groups, figures, the page."""
