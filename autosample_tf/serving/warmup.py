"""Requests that TensorFlow Serving sends itself before it calls a version ready.

Without them the first of a user pays for what TensorFlow does once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf

from autosample_tf.serving.verification import Request

if TYPE_CHECKING:
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

FILE = Path("assets.extra", "tf_serving_warmup_requests")
_MODEL = "recommender"  # a placeholder: the server puts its own model in


def write_warmup_requests(folder: Path, requests: Sequence[Request]) -> int:
    """Writes the requests into a SavedModel's folder, where the server looks for them.

    Returns:
      How many: none where `tensorflow-serving-api` is not installed.
    """
    try:
        from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog
    except ImportError:
        return 0
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = PredictionLog(predict_log=PredictLog(request=predict_request(request)))
            writer.write(log.SerializeToString())
    return len(requests)


def predict_request(request: Request, model: str = _MODEL) -> PredictRequest:
    """A request as it goes over gRPC; whole numbers are int32, as `k` is."""
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    message = PredictRequest()
    message.model_spec.name, message.model_spec.signature_name = model, request.signature
    for name, values in request.inputs.items():
        message.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return message
