"""Types of the lazily imported public names."""

from enecg import experts as experts
from pipeline.datasets.label_rules import LabelRules as LabelRules
from pipeline.datasets.registry import open_dataset as open_dataset
from pipeline.evaluate import Evaluation as Evaluation
from pipeline.evaluate import evaluate as evaluate
from pipeline.explain import explain as explain
from pipeline.explanation.options import ExplainOptions as ExplainOptions
from pipeline.extract import extract as extract
from pipeline.extraction.options import ExtractOptions as ExtractOptions
from pipeline.extraction.summary import ExtractionSummary as ExtractionSummary
from pipeline.labels.folds import Folds as Folds
from pipeline.labels.label_step import make_labels as make_labels
from pipeline.predict import predict as predict
from pipeline.prediction.live_run import load_run as load_run
from pipeline.pretrain import PretrainedWeights as PretrainedWeights
from pipeline.pretrain import pretrain as pretrain
from pipeline.pretraining.settings import PretrainSettings as PretrainSettings
from pipeline.runs.predictor import read_run_features as read_run_features
from pipeline.synthetic.synthesize import synthesize as synthesize
from pipeline.train import Results as Results
from pipeline.train import train as train
from pipeline.training.settings import FitSettings as FitSettings
from pipeline.training.settings import TrainSettings as TrainSettings
from stores.opening import open_stores as open_stores

__all__: list[str]
