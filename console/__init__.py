"""What the commands do and print: ``cli`` parses, these call the library."""
