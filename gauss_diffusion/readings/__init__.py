"""What a study found, in numbers: measures, intervals, headlines, and the claims of the paper, decided."""
