"""Slow, obvious second implementations, written from the definitions and not from the code that they check."""

from itertools import permutations

import numpy as np


def normalize_by_loops(counts, target_sum=1e4):
    """Log of 1 + share of the cell's total times target, value by value."""
    dense = np.zeros(counts.shape)
    for cell in range(counts.shape[0]):
        row = counts[[cell]].toarray()[0].astype(float)
        for gene, value in enumerate(row):
            if value > 0:
                dense[cell, gene] = np.log(1 + value / row.sum() * target_sum)
    return dense


def principal_components_by_full_svd(dense, n_components):
    """Scores from the full SVD of the centered dense matrix; signs are open."""
    centered = dense - dense.mean(axis=0)
    left, strength, _ = np.linalg.svd(centered, full_matrices=False)
    return (left * strength)[:, :n_components]


def cosine_distances_by_loops(points):
    """1 - cosine of all pairs; a zero row is at 1 from other rows and at 0 from zero rows."""
    n = len(points)
    distances = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            a, b = points[i].astype(float), points[j].astype(float)
            lengths = np.sqrt((a**2).sum()), np.sqrt((b**2).sum())
            if lengths[0] == 0 or lengths[1] == 0:
                distances[i, j] = float(lengths[0] != lengths[1])
            else:
                distances[i, j] = 1 - (a / lengths[0]) @ (b / lengths[1])
    return distances


def euclidean_distances_by_loops(points):
    return np.array([[np.sqrt(((a - b) ** 2).sum()) for b in points] for a in points.astype(float)])


def jaccard_by_loops(neighbors):
    """Jaccard index of neighbor sets with the cell itself, for pairs of which one is a neighbor of the other."""
    n = len(neighbors)
    members = [set(own) | {cell} for cell, own in enumerate(neighbors)]
    weights = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j and (j in neighbors[i] or i in neighbors[j]):
                weights[i, j] = len(members[i] & members[j]) / len(members[i] | members[j])
    return weights


def smooth_by_loops(features, weights, n_steps):
    """Weighted mean of each cell, with weight 1, and its neighbors."""
    current = features.astype(float)
    for _ in range(n_steps):
        following = np.zeros_like(current)
        for i in range(len(current)):
            total, mass = current[i].copy(), 1.0
            for j in range(len(current)):
                total += weights[i, j] * current[j]
                mass += weights[i, j]
            following[i] = total / mass
        current = following
    return current


def matchings(n_types, n_clusters):
    """All one-to-one matchings of the smaller side into the larger, as dicts from cluster to type."""
    if n_clusters <= n_types:
        return [dict(enumerate(chosen)) for chosen in permutations(range(n_types), n_clusters)]
    return [
        {cluster: kind for kind, cluster in enumerate(chosen)} for chosen in permutations(range(n_clusters), n_types)
    ]


def accuracy_by_all_matchings(y_true, y_pred):
    """Best share of cells in the type that their cluster is matched with; labels are 0 .. n-1."""
    return max(
        np.mean([matching.get(found) == kind for kind, found in zip(y_true, y_pred, strict=True)])
        for matching in matchings(int(max(y_true)) + 1, int(max(y_pred)) + 1)
    )


def rand_index_by_pairs(y_true, y_pred):
    """Adjusted Rand index from the four kinds of pairs of cells."""
    both = only_true = only_pred = neither = 0
    for i in range(len(y_true)):
        for j in range(i):
            together, found = y_true[i] == y_true[j], y_pred[i] == y_pred[j]
            both += together and found
            only_true += together and not found
            only_pred += found and not together
            neither += not together and not found
    if only_true == only_pred == 0:
        return 1.0
    top = 2 * (both * neither - only_true * only_pred)
    return top / ((both + only_true) * (only_true + neither) + (both + only_pred) * (only_pred + neither))


def information_by_definition(y_true, y_pred):
    """Mutual information over the mean of the two entropies; 1 if both have one class."""
    n = len(y_true)

    def probability(pairs):
        return {pair: pairs.count(pair) / n for pair in set(pairs)}

    joint = probability(list(zip(y_true, y_pred, strict=True)))
    p_true, p_pred = probability(list(y_true)), probability(list(y_pred))
    shared = sum(p * np.log(p / (p_true[a] * p_pred[b])) for (a, b), p in joint.items())
    entropies = [-sum(p * np.log(p) for p in table.values()) for table in (p_true, p_pred)]
    return 1.0 if sum(entropies) == 0 else shared / (sum(entropies) / 2)


def simplified_silhouette_by_loops(features, labels):
    """1 - distance to the own center over distance to the nearest other center, not below 0."""
    centers = {label: features[labels == label].astype(float).mean(axis=0) for label in set(labels.tolist())}
    values = []
    for point, label in zip(features.astype(float), labels.tolist(), strict=True):
        own = np.sqrt(((point - centers[label]) ** 2).sum())
        other = min(np.sqrt(((point - center) ** 2).sum()) for key, center in centers.items() if key != label)
        values.append(max(0.0, 1 - own / other))
    return np.array(values)
