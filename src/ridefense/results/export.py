"""Results as JSON: plain data, without anything that a reader has to parse."""

import json
from collections.abc import Iterable
from typing import Any

from ridefense.describe import Plain
from ridefense.results.attack import AttackResult
from ridefense.results.defence import DefenceResult, WorstCase
from ridefense.results.statistics import Accuracy, Score


def json_text(defences: Iterable[DefenceResult]) -> str:
    """Defences with their settings, attacks and worst cases; deterministic, without times."""
    runs = [
        {
            "run": defence.name,
            "settings": defence.run.settings,
            "versions": defence.run.versions,
            "attacks": defence.run.attacks,
            "results": [_nested(attack) for attack in defence.reported],
            "worst_cases": [
                _worst_case(case) for case in defence.worst_cases if len(case.attacks) > 1
            ],
        }
        for defence in defences
    ]
    return json.dumps({"runs": runs}, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _nested(attack: AttackResult) -> Plain:
    defence = attack.defence
    paper = attack.stated and {
        "table": attack.stated.table,
        "accuracy": attack.stated.accuracy,
        "difference": attack.difference,
        "departs": list(attack.departures),
    }
    return {
        "defence": defence.short_title,
        "preset": defence.preset,
        "engines": list(attack.engines),
        "attack": attack.label,
        "threat": attack.short_title,
        "attacker_knows": attack.knows,
        "robustness_claim": not attack.is_clean and not attack.is_gray_box,
        "images": attack.accuracy.n,
        "images_declared": defence.declared,
        "images_unreadable": len(defence.unreadable),
        "clean": _score(attack.clean.score),
        "robust": None if attack.is_clean else _score(attack.score),
        "bare_classifier": _share(attack.bare),
        "rounded_to_8_bits": attack.rounded and _share(attack.rounded),
        "mean_absolute_distances": attack.distances,
        "faults": attack.faults,
        "unmoved": attack.unmoved,
        "refits": attack.refits,
        "paper": paper,
    }


def _worst_case(case: WorstCase) -> Plain:
    return {
        "attacks": [attack.label for attack in case.attacks],
        "unfinished": case.unfinished,
        "norm": case.norm,
        "eps": case.eps,
        "purifier_seed_known": case.seed_known,
        "robustness_claim": not case.is_gray_box,
        **_share(case.accuracy),
    }


def _share(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "accuracy": accuracy.fraction,
        "n": accuracy.n,
        "interval_95": list(accuracy.interval),
    }


def _score(score: Score) -> Plain:
    """Of a score its mean, and over draws their spread, vote and worst."""
    return {
        **_share(score.mean),
        "draws": score.draws,
        "sd": score.sd,
        "majority": _share(score.majority),
        "worst": _share(score.worst),
    }
