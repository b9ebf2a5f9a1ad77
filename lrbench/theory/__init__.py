"""The paper's statements as functions: approximate loss, patterns, constructions, block minimisers, certificates."""

from __future__ import annotations

from lrbench.theory.absorption import absorb as absorb
from lrbench.theory.absorption import absorbed_pattern as absorbed_pattern
from lrbench.theory.absorption import dropped_leaves as dropped_leaves
from lrbench.theory.absorption import hierarchical_pattern as hierarchical_pattern
from lrbench.theory.absorption import situation_pattern as situation_pattern
from lrbench.theory.absorption import situations as situations
from lrbench.theory.blocks import gradients as gradients
from lrbench.theory.blocks import minimise_decoder as minimise_decoder
from lrbench.theory.certificate import Certificate as Certificate
from lrbench.theory.certificate import certify as certify
from lrbench.theory.constructions import spurious_minimum as spurious_minimum
from lrbench.theory.constructions import true_dictionary as true_dictionary
from lrbench.theory.constructions import true_dictionary_bound as true_dictionary_bound
from lrbench.theory.constructions import worked_example as worked_example
from lrbench.theory.constructions import zero_loss_without_recovery as zero_loss_without_recovery
from lrbench.theory.encoder import minimise_encoder as minimise_encoder
from lrbench.theory.loss import Isolated as Isolated
from lrbench.theory.loss import Loss as Loss
from lrbench.theory.loss import approximate_loss as approximate_loss
from lrbench.theory.loss import exact_loss as exact_loss
from lrbench.theory.loss import feature_weights as feature_weights
from lrbench.theory.loss import isolated as isolated
from lrbench.theory.loss import sampled_loss as sampled_loss
from lrbench.theory.pattern import activation_pattern as activation_pattern
from lrbench.theory.pattern import border_distance as border_distance
from lrbench.theory.pattern import realise as realise
