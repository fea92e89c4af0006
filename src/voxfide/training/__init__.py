"""Training: back-ends on frozen front-ends, and fine-tuning."""

from voxfide.training.pooled import TrainingSet, TrainResult, choose_sets, train

__all__ = ["TrainResult", "TrainingSet", "choose_sets", "train"]
