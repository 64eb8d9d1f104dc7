"""Maps take scanpy's arguments, and its colors."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

import cellmodel as cm
from tests.robust.bad_files.cells import cells

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture
def adata():
    made = cells()
    made.obsm["X_umap"] = np.random.default_rng(0).normal(size=(made.n_obs, 2))
    made.obs["label"] = made.obs["label"].astype("category")
    yield made
    plt.close("all")


def colors_of(axes):
    return {
        to_hex(color) for drawn in axes.collections for color in drawn.get_facecolor() if len(drawn.get_offsets()) > 1
    }


def test_colors_are_those_of_uns_of_the_palette_or_of_the_report(adata):
    own = colors_of(cm.pl.umap(adata, color="label"))
    adata.uns["label_colors"] = ["#112233", "#445566"]
    assert colors_of(cm.pl.umap(adata, color="label")) == {"#112233", "#445566"} != own
    assert colors_of(cm.pl.umap(adata, color="label", palette=["#ff0000", "#00ff00"])) == {"#ff0000", "#00ff00"}
    by_name = {"T cell": "#0000ff"}
    assert "#0000ff" in colors_of(cm.pl.umap(adata, color="label", palette=by_name))
    assert len(colors_of(cm.pl.umap(adata, color="label", palette="tab10"))) == 2


def test_several_colors_are_panels_with_titles(adata, tmp_path):
    maps = cm.pl.umap(adata, color=["label", "CD3D", "CD4"], ncols=2, title=["one"], save=tmp_path / "maps.png")
    assert [axes.get_title() for axes in maps] == ["one", "CD3D", "CD4"]
    assert (tmp_path / "maps.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="several colors are several maps"):
        cm.pl.umap(adata, color=["label", "CD3D"], ax=plt.subplots()[1])


def test_legend_size_and_scale_are_taken(adata):
    axes = cm.pl.umap(adata, color="label", legend_loc="on data", size=33)
    assert axes.get_legend() is None
    assert {text.get_text() for text in axes.texts} == {"T cell", "B cell"}
    assert axes.collections[0].get_sizes().tolist() == [33]
    assert cm.pl.umap(adata, color="label", legend_loc="none").get_legend() is None
    assert cm.pl.umap(adata, color="label", legend_loc="upper left").get_legend() is not None
    assert cm.pl.umap(adata, color="CD3D", cmap="magma").collections[-1].get_cmap().name == "magma"


def test_the_seed_has_two_names_and_show_shows(adata):
    cm.pl.umap(adata, color="label", seed=3, show=False)
    assert cm.pl.umap(adata, color="label", random_state=3, show=True).get_legend() is not None
