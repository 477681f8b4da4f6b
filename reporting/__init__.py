"""What is said of a compilation: the report, its layers and notes, versions."""
