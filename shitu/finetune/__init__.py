"""From a folder of photos to a model, gallery and config of their own: `shitu finetune`; needs the `train` extra."""
