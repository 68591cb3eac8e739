"""What a study found, as tables: for the terminal, for Markdown. It computes no statistic of its own."""
