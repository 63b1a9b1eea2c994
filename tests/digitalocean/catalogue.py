"""What the fake has on offer: real slugs and real prices of 2025, a part of them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

REGIONS = {
    "nyc1": ("New York 1", True),
    "nyc2": ("New York 2", False),
    "nyc3": ("New York 3", True),
    "sfo3": ("San Francisco 3", True),
    "ams3": ("Amsterdam 3", True),
    "sgp1": ("Singapore 1", True),
    "lon1": ("London 1", True),
    "fra1": ("Frankfurt 1", True),
    "tor1": ("Toronto 1", True),
    "blr1": ("Bangalore 1", True),
    "syd1": ("Sydney 1", True),
}
"""Slug: name, whether droplets can be made there."""

_EVERYWHERE = tuple(slug for slug, (_, available) in REGIONS.items() if available)
_NOT_INDIA = tuple(slug for slug in _EVERYWHERE if slug != "blr1")

_SIZES: list[tuple[str, int, int, int, float, float, bool, tuple[str, ...]]] = [
    # slug, MB of memory, vCPUs, GB of disk, USD a month, USD an hour, available, where
    ("s-1vcpu-512mb-10gb", 512, 1, 10, 4.0, 0.00595, True, ("nyc1", "fra1")),
    ("s-1vcpu-1gb", 1024, 1, 25, 6.0, 0.00893, True, _EVERYWHERE),
    ("s-1vcpu-1gb-amd", 1024, 1, 25, 7.0, 0.01042, True, _EVERYWHERE),
    ("s-1vcpu-1gb-intel", 1024, 1, 25, 7.0, 0.01042, True, _EVERYWHERE),
    ("s-1vcpu-2gb", 2048, 1, 50, 12.0, 0.01786, True, _EVERYWHERE),
    ("s-1vcpu-2gb-amd", 2048, 1, 50, 14.0, 0.02083, True, _EVERYWHERE),
    ("s-1vcpu-2gb-intel", 2048, 1, 50, 14.0, 0.02083, True, _EVERYWHERE),
    ("s-2vcpu-2gb", 2048, 2, 60, 18.0, 0.02679, True, _EVERYWHERE),
    ("s-2vcpu-2gb-amd", 2048, 2, 60, 21.0, 0.03125, True, _EVERYWHERE),
    ("s-2vcpu-2gb-intel", 2048, 2, 60, 21.0, 0.03125, True, _EVERYWHERE),
    ("s-2vcpu-4gb", 4096, 2, 80, 24.0, 0.03571, True, _EVERYWHERE),
    ("s-2vcpu-4gb-amd", 4096, 2, 80, 28.0, 0.04167, True, _EVERYWHERE),
    ("s-2vcpu-4gb-intel", 4096, 2, 80, 28.0, 0.04167, True, _EVERYWHERE),
    ("s-4vcpu-8gb", 8192, 4, 160, 48.0, 0.07143, True, _EVERYWHERE),
    ("s-4vcpu-8gb-amd", 8192, 4, 160, 56.0, 0.08333, True, _EVERYWHERE),
    ("s-4vcpu-8gb-intel", 8192, 4, 160, 56.0, 0.08333, True, _EVERYWHERE),
    ("s-8vcpu-16gb", 16384, 8, 320, 96.0, 0.14286, True, _EVERYWHERE),
    ("c-2", 4096, 2, 25, 42.0, 0.0625, True, _NOT_INDIA),
    ("c-4", 8192, 4, 50, 84.0, 0.125, True, _NOT_INDIA),
    ("c-8", 16384, 8, 100, 168.0, 0.25, True, _NOT_INDIA),
    ("c-16", 32768, 16, 200, 336.0, 0.5, True, _NOT_INDIA),
    ("c-32", 65536, 32, 400, 672.0, 1.0, True, ("nyc1", "sfo3")),
    ("c-48", 98304, 48, 600, 1008.0, 1.5, False, ()),
    ("g-2vcpu-8gb", 8192, 2, 25, 63.0, 0.09375, True, _NOT_INDIA),
    ("m-2vcpu-16gb", 16384, 2, 50, 84.0, 0.125, True, _NOT_INDIA),
    ("gpu-4000adax1-20gb", 32768, 8, 500, 565.44, 0.76, True, ("fra1", "tor1")),
    ("gpu-h100x1-80gb", 245760, 20, 720, 2522.16, 3.39, True, ("fra1", "nyc2", "tor1")),
]

_IMAGES = {
    # slug: id, distribution, name
    "ubuntu-24-04-x64": (155133621, "Ubuntu", "24.04 (LTS) x64"),
    "ubuntu-22-04-x64": (155133622, "Ubuntu", "22.04 (LTS) x64"),
    "debian-12-x64": (156133623, "Debian", "12 x64"),
}


def sizes() -> list[Json]:
    return [
        {
            "slug": slug,
            "memory": memory,
            "vcpus": vcpus,
            "disk": disk,
            "transfer": 4.0,
            "price_monthly": monthly,
            "price_hourly": hourly,
            "regions": sorted(regions),
            "available": available,
            "description": "CPU-Optimized" if slug.startswith("c-") else "Basic",
            **({"gpu_info": {"count": 1, "model": "nvidia"}} if slug.startswith("gpu-") else {}),
        }
        for slug, memory, vcpus, disk, monthly, hourly, available, regions in _SIZES
    ]


def regions() -> list[Json]:
    return [
        {
            "slug": slug,
            "name": name,
            "features": ["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"],
            "available": available,
            "sizes": [size["slug"] for size in sizes() if slug in size["regions"]],
        }
        for slug, (name, available) in REGIONS.items()
    ]


def images() -> list[Json]:
    return [
        {
            "id": number,
            "name": name,
            "distribution": distribution,
            "slug": slug,
            "public": True,
            "regions": list(_EVERYWHERE),
            "created_at": "2024-05-08T15:12:09Z",
            "min_disk_size": 7,
            "type": "base",
            "size_gigabytes": 0.67,
            "description": f"{distribution} {name}",
            "tags": [],
            "status": "available",
        }
        for slug, (number, distribution, name) in _IMAGES.items()
    ]
