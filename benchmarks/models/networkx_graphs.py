"""Random graphs and layouts without a seed."""

import networkx as nx


def work(params):
    graph = nx.gnp_random_graph(20, 0.3)
    layout = nx.spring_layout(graph, iterations=5)
    return {
        "edges": graph.number_of_edges(),
        "at": [round(float(value), 9) for value in layout[0]],
        "walk": sorted(nx.maximal_independent_set(graph))[:5],
    }
