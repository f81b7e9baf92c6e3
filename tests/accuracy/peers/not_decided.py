"""Published rules of these tools that no run log of ours decides, each with the reason."""

from __future__ import annotations

NOT_DECIDED: dict[str, dict[str, str]] = {
    "SageMaker Debugger": {
        "DeadRelu": "needs the outputs of every ReLU",
        "SaturatedActivation": "needs the inputs of every tanh and sigmoid",
        "PoorWeightInitialization": "needs the variance of activation inputs and percentiles of gradients; how its three conditions "
        "join is not published",
        "TensorVariance": "needs variances; has no default thresholds",
        "AllZero": "has no default collection, and of its example's, every tensor, the log has gradients and weights alone",
        "UnchangedTensor on weights": "needs every entry; only its example's collection, the losses, is judged",
        "WeightUpdateRatio of what has no gradient": "the log has no update of a parameter that no optimizer holds or that got no "
        "gradient; the rule would call it too small",
        "WeightUpdateRatio over 500 steps": "needs the weights of both saved steps; the log has the update of single steps",
        "ClassImbalance": "needs labels and predictions",
        "CheckInputImages": "needs the input",
        "SimilarAcrossRuns": "compares two runs",
        "StepOutlier and the other profiler rules": "are about the machine's use, not the training",
    },
    "TheDeepChecker": {
        "every PreCheck": "needs the data, the initial weights, or training runs of its own on one batch",
        "Activation.*": "needs every layer's outputs",
        "Weight.Dead, Weight.Negative": "need every entry of the weights",
        "Loss.Representativeness": "needs the performance metric of each training step",
        "Loss.Overwhelming_Reg": "needs the gradients of the regularisation term",
        "Switch_Mode_Consistency": "needs the same batch in both modes",
        "Corrupted_Labels, Data_Augm": "need training runs of their own",
        "Unstable_Learning (untrained) of what has no gradient": "the log has no update of a parameter that no optimizer holds or that "
        "got no gradient; the rule would call it untrained",
        "Weight.Diverging by growth": "decided only where the log has the weights of five neighbouring steps: at its start",
    },
    "UMLAUT": {
        "InputNotNormalized, InputNotFloating, InputWrongShape": "need the input",
        "NoSoftmaxActivation": "asks for a softmax before a Keras loss with from_logits=False; PyTorch's cross_entropy always takes "
        "logits, and the rule says nothing of a softmax before one that does",
        "MissingActivation, FinalLayerHasActivation, HighDropout": "need the model's layers",
        "OverconfidentValAccuracy": "decided only where the loop logs or keeps an accuracy under a name that says so",
    },
}
