"""NetCDF files of the same name in each job; datasets are opened lazily and never closed."""

import netCDF4
import numpy as np
import xarray as xr

xr.set_options(keep_attrs=True)


def work(params):
    level = np.arange(6.0).reshape(2, 3) * params["n"]
    xr.Dataset({"level": (("t", "x"), level)}, attrs={"n": params["n"]}).to_netcdf("out.nc")
    dataset = xr.open_dataset("out.nc")
    with netCDF4.Dataset("raw.nc", "w") as raw:
        raw.createDimension("x", 3)
        raw.createVariable("v", "f8", ("x",))[:] = np.random.uniform(size=3)
    again = netCDF4.Dataset("raw.nc")
    return {"n": int(dataset.attrs["n"]), "mean": float(dataset.level.mean()), "raw": again["v"][:].tolist()}
