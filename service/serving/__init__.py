"""Serving of models: registry, queue, threads, batches and memory."""
