"""An adapter is worth the model it is merged into; policies that have one share the weights it stands on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from rapo.check import weights
from rapo.errors import ModelError
from rapo.models import adapters
from rapo.models.policy import Policy
from rapo.optimize.optimizer import Optimizer
from rapo.optimize.packing import PackedGroup, Segment, completion_logits

IDS = torch.tensor([[1, 5, 9, 60, 33, 2]])
LINEAR = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
TIED = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
FAMILY = pytest.mark.parametrize("family", ["qwen3", "llama"])


def disturb(model: PreTrainedModel, seed: int = 0) -> None:
    """Weights for the adapter that show in every logit."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapters.adapter_weights(model):
            weight.copy_(torch.randn(weight.shape, generator=noise) * 0.3)


@pytest.fixture
def make_adapted(make_model: Callable[..., PreTrainedModel], policy: Policy) -> Callable[..., Policy]:
    """``make_adapted(family, tied=..., dtype=...)``: a policy with grouped-query attention and a telling adapter."""

    def make(family: str = "qwen3", *, tied: bool = True, dtype: torch.dtype = torch.float32) -> Policy:
        model = make_model(family, tie_word_embeddings=tied).to(dtype)
        adapters.add(model, rank=3)
        disturb(model)
        return Policy(model, policy.tokenizer)

    return make


@pytest.fixture
def saved(policy: Policy, tmp_path: Path) -> Path:
    """An adapter folder; its base is in ``base`` beside it."""
    policy.save(tmp_path / "base")
    adapted = Policy.load(tmp_path / "base")
    adapters.add(adapted.model, rank=2, targets=["q_proj", "up_proj"])
    disturb(adapted.model)
    adapted.save(tmp_path / "adapter")
    return tmp_path / "adapter"


def logits(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        return policy.model(IDS).logits


@FAMILY
@TIED
def test_a_fresh_adapter_changes_nothing_and_a_seed_decides_it(make_model, family, tied):
    model, again, another = (make_model(family, tie_word_embeddings=tied) for _ in range(3))
    before, state = model(IDS).logits, torch.get_rng_state()
    adapters.add(model, rank=3, seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    adapters.add(again, rank=3, seed=7)
    adapters.add(another, rank=3, seed=8)
    assert torch.equal(model(IDS).logits, before)
    assert adapters.shape(model) == (3, 6.0, LINEAR)
    assert all(map(torch.equal, adapters.adapter_weights(model), adapters.adapter_weights(again)))
    assert not torch.equal(*(adapters.adapter_weights(each)[0] for each in (model, another)))
    factors = [weight for name, weight in model.named_parameters() if "lora_A" in name]
    assert len(factors) == 14 and all(weight.std() > 0.05 for weight in factors)


@FAMILY
@TIED
def test_the_merged_model_gives_the_same_logits(make_adapted, make_model, family, tied):
    policy = make_adapted(family, tied=tied)
    sharing, wanted = policy.clone(), logits(policy)
    assert (wanted - make_model(family, tie_word_embeddings=tied)(IDS).logits).abs().max() > 1
    policy.merge()
    assert (logits(policy) - wanted).abs().max() < 1e-4
    assert torch.equal(logits(sharing), wanted)
    names = {name for name, _ in policy.model.named_parameters()}
    assert names == {name for name, _ in make_model(family, tie_word_embeddings=tied).named_parameters()}


@FAMILY
@TIED
def test_shared_prefixes_and_ordinary_rows_agree(make_adapted, family, tied):
    policy, found = make_adapted(family, tied=tied), []
    groups = [PackedGroup((5, 9, 33), (Segment((7, 8)), Segment((3,)))), PackedGroup((4, 6), (Segment((40, 41, 42)),))]
    for packed in (True, False):
        rows = completion_logits(policy.model, groups, packed=packed)
        rows.logsumexp(-1).sum().backward()
        found.append((rows.detach(), [weight.grad for weight in policy.trained]))
        policy.model.zero_grad(set_to_none=True)
    (packed, packed_gradients), (plain, plain_gradients) = found
    assert torch.allclose(packed, plain, atol=1e-5)
    for mine, theirs in zip(packed_gradients, plain_gradients, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5 * float(theirs.abs().max()) + 1e-6)


def test_only_the_adapter_learns(make_adapted):
    policy = make_adapted()
    optimizer = Optimizer(policy, lr=0.1)
    before = [weight.clone() for weight in adapters.base_weights(policy.model)]
    policy.model(IDS).logits.square().mean().backward()
    learning = [weight for weight in policy.model.parameters() if weight.grad is not None]
    assert [id(weight) for weight in learning] == [id(weight) for weight in policy.trained]
    optimizer.step()
    assert len(optimizer.state()["AdamW"]["state"]) == len(policy.trained) == 28
    assert all(map(torch.equal, adapters.base_weights(policy.model), before))


def stored(*policies: Policy) -> int:
    """Bytes behind all weights of the policies, each storage counted once."""
    weights = [weight for policy in policies for weight in policy.model.parameters()]
    return sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in weights}.values())


@TIED
def test_copies_share_the_base_and_nothing_else(make_adapted, tied):
    policy = make_adapted(tied=tied)
    adapter = sum(weight.nbytes for weight in policy.trained)
    base = stored(policy) - adapter
    student, teacher = policy.clone(trainable=True), policy.clone()
    assert stored(policy, student, teacher) == base + 3 * adapter
    assert all(weight.requires_grad for weight in student.trained)
    assert not any(weight.requires_grad for weight in (*teacher.trained, *adapters.base_weights(student.model)))
    before = logits(policy)
    disturb(student.model, seed=1)
    assert torch.equal(logits(policy), before) and torch.equal(logits(teacher), before)
    assert not torch.equal(logits(student), before)


def test_following_moves_only_what_is_trained(make_adapted):
    policy = make_adapted()
    teacher, before = policy.clone(), [weight.clone() for weight in adapters.base_weights(policy.model)]
    with torch.no_grad():
        for mine, theirs in zip(teacher.trained, policy.trained, strict=True):
            mine.fill_(1.0)
            theirs.fill_(3.0)
    teacher.follow(policy, 0.75)
    # 0.75 * 1 + 0.25 * 3
    assert all((weight == 1.5).all() for weight in teacher.trained)
    assert all((weight == 3.0).all() for weight in policy.trained)
    assert all(map(torch.equal, adapters.base_weights(teacher.model), before))


def test_a_base_in_bfloat16_has_factors_in_float32(make_adapted, policy, tmp_path):
    adapted = make_adapted(dtype=torch.bfloat16)
    assert {weight.dtype for weight in adapted.trained} == {torch.float32}
    before = [weight.clone() for weight in adapted.trained]
    adapted.model(IDS).logits.float().square().mean().backward()
    # One step of Adam moves a number by its rate: 1e-4 of 0.3 is below the 8 bits of bfloat16.
    Optimizer(adapted, lr=1e-4).step()
    assert all((weight != old).float().mean() > 0.5 for weight, old in zip(adapted.trained, before, strict=True))
    layer = adapted.model.model.layers[0].mlp.up_proj
    added = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * 2
    wanted = (layer.base_layer.weight.float() + added).bfloat16()
    adapters.write(adapted.model, tmp_path)
    adapters.read(twin := make_adapted(dtype=torch.bfloat16).model, tmp_path)
    assert all(map(torch.equal, adapters.adapter_weights(twin), adapted.trained))
    adapted.merge()
    assert torch.equal(adapted.model.model.layers[0].mlp.up_proj.weight, wanted)


def test_a_folder_keeps_everything(saved, policy):
    adapted = Policy.load(saved)
    assert adapters.shape(adapted.model) == (2, 4.0, ("q_proj", "up_proj"))
    assert not torch.equal(logits(adapted), logits(policy))
    assert all(weight.requires_grad for weight in adapted.trained)
    twin = policy.clone()
    adapters.add(twin.model, rank=2, targets=["q_proj", "up_proj"])
    disturb(twin.model)
    assert all(map(torch.equal, twin.model.parameters(), adapted.model.parameters()))
    assert adapted.tokenizer.get_vocab() == policy.tokenizer.get_vocab()
    assert Policy.load(saved, dtype="bfloat16").model.dtype is torch.bfloat16
    settings = json.loads((saved / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(saved.parent / "base")


def test_an_adapter_of_peft_without_a_tokenizer(policy, tmp_path):
    policy.save(tmp_path / "base")
    config = LoraConfig(r=2, lora_alpha=5, target_modules="all-linear", lora_dropout=0.1, task_type="CAUSAL_LM")
    theirs = get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), config).eval()
    disturb(theirs)
    theirs.save_pretrained(tmp_path / "adapter")
    mine = Policy.load(tmp_path / "adapter")
    assert torch.equal(logits(mine), theirs(IDS).logits)
    assert torch.equal(mine.model.train()(IDS).logits, theirs(IDS).logits)  # without dropout
    assert all(weight.requires_grad for weight in mine.trained)
    assert mine.tokenizer.chat_template == policy.tokenizer.chat_template


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_check_counts_what_there_will_be(saved):
    base, adapted = saved.parent / "base", Policy.load(saved)
    factors = sum(weight.nbytes for weight in adapted.trained)
    assert weights.adapter_size(str(saved), 2, ["q_proj", "up_proj"]) == factors
    adapters.add(whole := Policy.load(base).model, rank=3)
    assert weights.adapter_size(str(base), 3, ()) == sum(w.nbytes for w in adapters.adapter_weights(whole))
    assert weights.size(str(saved)) == weights.size(str(base)) > factors
    assert weights.context(str(saved)) == adapted.max_context
    edit(saved, base_model_name_or_path="some/base")
    assert "some/base is not downloaded yet" in weights.obstacle(str(saved)).found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "IA3"),
        ("bias", "all"),
        ("init_lora_weights", "pissa"),
        ("modules_to_save", ["lm_head"]),
        ("trainable_token_indices", [3]),
        ("target_parameters", ["experts"]),
        ("layer_replication", [[0, 1]]),
        ("alora_invocation_tokens", [5]),
    ],
)
def test_what_is_no_plain_lora_is_refused(saved, key, value):
    edit(saved, **{key: value})
    with pytest.raises(ModelError, match=f"is not a plain LoRA; got {key}="):
        Policy.load(saved)


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickled": (pickled, "has no weights; expected adapter_model.safetensors"),
    "torn": (lambda f: (f / "adapter_model.safetensors").write_bytes(b"torn"), "adapter in .* cannot be read"),
    "no json": (lambda f: (f / "adapter_config.json").write_text("{"), "is not a JSON object"),
    "a list": (lambda f: (f / "adapter_config.json").write_text("[]"), "is not a JSON object"),
    "no base": (lambda f: edit(f, base_model_name_or_path=None), "does not name its base"),
    "base gone": (lambda f: (f.parent / "base").rename(f.parent / "away"), "is not there; got .*base; put it back"),
    "on itself": (lambda f: edit(f, base_model_name_or_path=str(f)), "is itself an adapter"),
    "bad tokenizer": (lambda f: (f / "tokenizer_config.json").write_text("{"), "adapter cannot be loaded; got"),
    "other rank": (lambda f: edit(f, r=3), "does not fit its base model; got .*lora_"),
    "other layers": (lambda f: edit(f, target_modules=["v_proj", "up_proj"]), "does not fit its base model"),
    "no layers": (lambda f: edit(f, target_modules=["nowhere"]), "cannot be read; got .*nowhere.* not found"),
    "embeddings": (lambda f: edit(f, target_modules=["embed_tokens"]), "may not stand on .* got model.embed_tokens"),
    "output": (lambda f: edit(f, target_modules=["lm_head"]), "may not stand on .* got lm_head"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_adapter_is_refused_in_one_line(saved, damage):
    break_it, message = DAMAGES[damage]
    break_it(saved)
    with pytest.raises(ModelError, match=message) as caught:
        Policy.load(saved)
    assert "\n" not in str(caught.value)


def test_another_base_is_told_from_the_right_one(make_adapted, make_model, tmp_path):
    adapters.write(make_adapted(tied=False).model, tmp_path)
    for right in (make_model(), make_model().bfloat16()):
        adapters.read(right, tmp_path)
    wrong = make_model()
    with torch.no_grad():
        wrong.model.layers[1].mlp.down_proj.weight[-2:].mul_(1.01)
    with pytest.raises(ModelError, match=r"is not the one that the adapter in .* was trained on"):
        adapters.read(wrong, tmp_path)


def test_weights_for_an_adapter_of_another_shape_are_refused(make_adapted, make_model, tmp_path):
    adapters.write(make_adapted(tied=False).model, tmp_path)
    adapters.add(other := make_model(), rank=3, alpha=7)
    with pytest.raises(ModelError, match=r"another shape; got rank 3, alpha 6 on .*; expected rank 3, alpha 7"):
        adapters.read(other, tmp_path)


def test_targets_are_linear_layers_of_the_model(make_model):
    with pytest.raises(ModelError, match=f"got lm_head, v_prj; expected some of {', '.join(LINEAR)}"):
        adapters.add(make_model(), rank=1, targets=["v_prj", "q_proj", "lm_head"])


def test_without_peft_the_extra_is_named(make_model, saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    for use in (lambda: adapters.add(make_model(), rank=1), lambda: Policy.load(saved)):
        with pytest.raises(ModelError, match=r"pip install 'rapo-rl\[lora\]'"):
            use()


def test_an_adapter_on_the_hub_is_not_loaded_unseen(policy, monkeypatch):
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: policy.tokenizer)
    monkeypatch.setattr("rapo.models.policy.find_adapter_config_file", lambda source: "adapter_config.json")
    with pytest.raises(ModelError, match="some/adapter is an adapter; give its folder: hf download some/adapter"):
        Policy.load("some/adapter")
