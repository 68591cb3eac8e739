"""What a study found: tables, charts, the HTML page and the model card. It computes no statistic of its own."""
