"""From a graph and a batch size to a program for the engine: lowering, fusion, memory, stages."""
