"""The parts that no extractor owns: decoding, stacks, weights, workers, outputs."""
