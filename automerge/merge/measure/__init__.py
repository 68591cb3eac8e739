"""What methods measure of whole tensors: sums, norms, angles, order statistics; the same bytes everywhere."""
