"""Adapters to the toolboxes that need one.

A `Defended` is an `nn.Module` from pixels to logits, and most toolboxes take it as it is:
docs/toolboxes.md shows how. Only two ask for another shape: ART's preprocessors (`art`) and the
image classifiers of Hugging Face (`huggingface`). Import them by their module: each needs a
package of its own.
"""
