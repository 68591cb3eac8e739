"""The study: proposes recipes, has them scored, remembers everything, and ends with a verdict. Killed, it goes on."""
