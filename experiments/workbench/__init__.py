"""What builders share: a run's data, parents and settings; how its result is told; learning from a teacher."""
