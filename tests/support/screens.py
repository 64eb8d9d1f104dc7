"""A simulated screen: families of genes that share words of their texts, and respond alike to families of others."""

import hashlib

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

import genekb

TOPICS = {
    "ribosome": "assembly of the large ribosomal subunit and translation initiation",
    "proteasome": "degradation of ubiquitinated proteins by the proteasome core",
    "spliceosome": "removal of introns by the spliceosome and snRNP maturation",
    "mitochondrion": "oxidative phosphorylation in the mitochondrial inner membrane",
    "mediator": "transcription by RNA polymerase through the mediator complex",
    "cholesterol": "synthesis of cholesterol and sterol sensing in endoplasmic reticulum",
    "kinetochore": "attachment of chromosomes to spindle microtubules at the kinetochore",
    "vesicle": "transport of vesicles between Golgi and plasma membrane",
}
PER_TOPIC = 20  # genes: the first twelve are perturbed, the others respond
PERTURBED = 12


def symbol(topic, number):
    """A symbol whose characters say nothing of the topic."""
    digest = hashlib.sha256(f"{topic}:{number}".encode()).digest()
    return "".join("ABCDEFGHIKLMNOPQRSTUVWXYZ"[byte % 25] for byte in digest[:5]) + str(digest[5])


def build_store(folder):
    """A store of their texts, encoded by wcp-32."""
    rows = [
        f"{place * PER_TOPIC + number + 1}\t{symbol(topic, number)}\tmember {number} {topic} protein\t"
        f"Protein {number} that takes part in {text}. Expressed in many tissues."
        for place, (topic, text) in enumerate(TOPICS.items())
        for number in range(PER_TOPIC)
    ]
    path = folder / "genes.tsv"
    path.write_text("gene_id\tsymbol\tname\tsummary\n" + "\n".join(rows) + "\n")
    source = genekb.read_source(path, taxa=["human"], release="1")
    genekb.build(source, genekb.BuildConfig(name="screen", models=("wcp-32",)), home=folder / "home")
    return genekb.open("screen", home=folder / "home")


def blocks(seed=0):
    """Which family of genes responds to which family of perturbations."""
    rng = np.random.default_rng(seed)
    found = rng.random((len(TOPICS), len(TOPICS))) < 0.5
    found[np.arange(len(TOPICS)), np.arange(len(TOPICS))] = True
    return found


def pairs(*, held_out=3, noise=0.15, seed=0):
    """Rows (perturbation, gene, label) to learn from, and of the last ``held_out`` perturbations of each family."""
    rng, responds = np.random.default_rng(seed), blocks(seed)
    train, query = [], []
    for one, topic in enumerate(TOPICS):
        for number in range(PERTURBED):
            for other, of in enumerate(TOPICS):
                for gene in range(PERTURBED, PER_TOPIC):
                    label = int(responds[one, other] ^ (rng.random() < noise))
                    rows = query if number >= PERTURBED - held_out else train
                    rows.append((symbol(topic, number), symbol(of, gene), label))
    return train, query


def write_table(path, rows, *, columns=("perturbation", "gene", "label")):
    """Write rows as a table."""
    lines = ["\t".join(columns), *("\t".join(map(str, row[: len(columns)])) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


CONTROL = "non-targeting"
HELD_OUT = [symbol(topic, PERTURBED - 1) for topic in TOPICS]


def simulate(*, per_topic=PERTURBED - 1, n_cells=30, seed=0):
    """Counts of a screen in two replicates; responding families are 1.5 or 1/1.5 times the control."""
    rng, responds = np.random.default_rng(seed), blocks(seed)
    genes = [symbol(topic, number) for topic in TOPICS for number in range(PERTURBED, PER_TOPIC)]
    family = np.repeat(np.arange(len(TOPICS)), PER_TOPIC - PERTURBED)
    base = rng.gamma(3.0, 4.0, len(genes))
    named = [(CONTROL, None)] + [(symbol(topic, n), k) for k, topic in enumerate(TOPICS) for n in range(per_topic)]
    counts, labels, batches = [], [], []
    for name, row in named:
        factor = np.ones(len(genes)) if row is None else np.where(responds[row], 1.5, 1 / 1.5)[family]
        for batch in ("a", "b"):
            shift = 1.3 if batch == "b" else 1.0
            counts.append(rng.poisson(base * factor * shift, (n_cells, len(genes))))
            labels += [name] * n_cells
            batches += [batch] * n_cells
    obs = pd.DataFrame({"perturbation": labels, "batch": batches}, index=[f"c{n}" for n in range(len(labels))])
    adata = anndata.AnnData(sp.csr_matrix(np.concatenate(counts).astype(np.float32)), obs=obs)
    adata.var_names = genes
    return adata, np.where(responds, 1.0, -1.0)[:, family]
