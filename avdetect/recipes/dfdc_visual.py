"""The visual encoder alone: `python -m avdetect.recipes.dfdc_visual [data.root=/path/to/dfdc] [OVERRIDES]`.

The road of `dfdc_fusion` with one modality; the encoder's logit is the fused one. See recipes/dfdc/README.md.
"""

import hydra
from omegaconf import DictConfig, OmegaConf

from avdetect.recipes import CONFIG_DIR


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="recipe/dfdc_visual")
def main(config: DictConfig) -> None:
    from avdetect.recipes.pipeline import run_recipe

    run_recipe(OmegaConf.to_container(config, resolve=True))


if __name__ == "__main__":
    main()
