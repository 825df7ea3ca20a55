"""What `tools.study_rows` is made of: level `rows` simulated, and ways to choose and to correct rows."""
