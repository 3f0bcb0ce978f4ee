"""The accuracies that the paper states."""

from ridefense.results import STATED, stated


def test_figures_are_found_by_their_case():
    assert stated("mnist", "RIDE", attack="BPDA", eps=0.1).accuracy == 0.98
    assert stated("cifar10-jpeg75", "RIDE", attack="BPDA", eps=0.05).accuracy == 0.76
    assert stated("mnist", "RIDE", attack="BPDA", eps=0.3) is None
    assert stated("imagenet", "Median", 5, attack="FGSM", eps=0.015).accuracy == 0.281
    assert stated("imagenet", "Median", attack="FGSM", eps=0.015).accuracy == 0.306
    assert stated("imagenet", "Median", 4, attack="FGSM", eps=0.015).accuracy == 0.306
    assert stated("imagenet", "RIDE", attack="PGD", eps=0.02).accuracy == 0.476
    assert stated("imagenet", "Unchanged").accuracy == 0.775
    assert stated("a folder", "RIDE", attack="BPDA", eps=0.1) is None


def test_the_best_cells_of_the_appendix_are_the_first_table():
    """As the paper says: Table 1 shows each filter at its best setting."""
    for attack in ("FGSM", "PGD"):
        cells = [f for f in STATED if f.defence == "Median" and f.attack == attack]
        best = max(f.accuracy for f in cells if f.table == "Table 4")
        assert best == next(f.accuracy for f in cells if f.table == "Table 1")
