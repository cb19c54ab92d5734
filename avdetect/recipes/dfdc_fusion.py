"""The main recipe: `python -m avdetect.recipes.dfdc_fusion [data.root=/path/to/dfdc] [OVERRIDES]`.

index -> prepare -> visual -> audio -> lipsync -> fusion -> calibrate -> test (with the bundle).
Without data it makes and uses the embedded demo set. See recipes/dfdc/README.md.
"""

import hydra
from omegaconf import DictConfig, OmegaConf

from avdetect.recipes import CONFIG_DIR


@hydra.main(version_base="1.3", config_path=CONFIG_DIR, config_name="recipe/dfdc_fusion")
def main(config: DictConfig) -> None:
    from avdetect.recipes.pipeline import run_recipe

    run_recipe(OmegaConf.to_container(config, resolve=True))


if __name__ == "__main__":
    main()
