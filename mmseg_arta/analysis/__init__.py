"""What models cost and do: measurements, checks, and the commands' work."""
