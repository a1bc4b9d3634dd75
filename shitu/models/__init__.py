"""Model folders: what is in them, where a name is looked for, how the official ones are fetched and verified."""

from shitu.models.folder import ModelFolder as ModelFolder
from shitu.models.folder import open_model as open_model
from shitu.models.model_yaml import ModelCard as ModelCard
from shitu.models.model_yaml import Nms as Nms
from shitu.models.model_yaml import Program as Program
