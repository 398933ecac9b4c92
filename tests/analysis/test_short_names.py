"""Names of arms side by side."""

from analysis.short_names import short_names


def test_names():
    """Catches names that no longer tell arms apart, and a method's name lost where it is needed."""
    assert short_names(["dense", "kvcomm estimator=mean", "kvcomm estimator=nearest"]) == {
        "dense": "dense",
        "kvcomm estimator=mean": "kvcomm mean",
        "kvcomm estimator=nearest": "kvcomm nearest",
    }
    many = [f"kvcomm gamma={gamma} max_anchors=20" for gamma in range(5)]
    assert list(short_names(many).values()) == [f"gamma={gamma}" for gamma in range(5)]
    flags = ["kvcomm rotate_keys=True text_offset=True", "kvcomm rotate_keys=False text_offset=True"]
    assert list(short_names(flags).values()) == ["kvcomm", "kvcomm no rotate_keys"]
    clash = ["kvcomm", "kvcomm a=True", "x a=True"]
    assert len(set(short_names(clash).values())) == 3


def test_long_names_keep_what_tells_them_apart():
    """Catches names that run across the panel, as those of the arena did, two arms of one name, and a bound that
    is no longer told as one."""
    both = "learns=new_samples min_anchors"
    affine = f"kvcomm base=in_place criterion=always estimator=affine {both}=8"
    arms = {
        f"kvcomm base=alone criterion=entropy_fitted estimator=l2_norm {both}=2 recompute=none": (
            "kvcomm entropy_fitted l2_norm"
        ),
        f"kvcomm base=alone criterion=always estimator=mean {both}=8 recompute=none": "kvcomm always mean",
        f"{affine} recompute=first:1": "kvcomm always affine first:1",
        f"{affine} recompute=tail": "kvcomm always affine tail",
        "kvcomm base=in_place criterion=calibrated estimator=affine learns=dense_turns min_anchors=2 recompute=tail": (
            "kvcomm calibrated affine tail"
        ),
        f"{affine.replace('always', 'oracle')} recompute=tail (bound)": "kvcomm oracle affine tail (bound)",
        "epic first=4": "epic first=4",
        "epic first=16": "epic first=16",
        "dense": "dense",
    }
    assert short_names(arms) == arms
    unknown = [f"mypkg.reuse:Twin alpha={alpha} {'beta=1.2345 ' * 3}gamma={alpha}" for alpha in (1, 2)]
    assert len(set(short_names(unknown).values())) == 2
