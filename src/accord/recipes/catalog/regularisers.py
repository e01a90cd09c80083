"""The catalogue's part on regularisers: what is added to a loss so that embeddings stay short, spread or diverse."""

from accord.recipes.catalog.info import LossInfo

LOSSES: dict[str, LossInfo] = {
    "embedding_norm": LossInfo(
        "accord.losses.EmbeddingNorm",
        "regulariser",
        "keeps embeddings short: their mean squared length",
        "Sohn, NIPS 2016",
        2016,
    ),
    "koleo": LossInfo(
        "accord.losses.Koleo",
        "regulariser",
        "pushes each embedding from its nearest neighbour, whatever its class",
        "Sablayrolles et al., ICLR 2019",
        2018,
        (),
        {"epsilon": "distances below count as this one and move nothing (1e-15 … 2)"},
    ),
    "centre_decorrelation": LossInfo(
        "accord.losses.CentreDecorrelation",
        "regulariser",
        "keeps the centres of a batch's classes apart",
        "Zhao et al., CVPR 2019 (RegularFace)",
        2019,
        (),
        {"over": "nearest: each centre's largest cosine; all: squared cosines of all pairs of centres"},
    ),
    "variance_covariance": LossInfo(
        "accord.losses.VarianceCovariance",
        "regulariser",
        "keeps the variance of every axis up and the covariance of axes down",
        "Bardes, Ponce, LeCun, ICLR 2022 (VICReg)",
        2022,
        (),
        {
            "variance": "weight of what standard deviations fall short of target (at least 0)",
            "covariance": "weight of the squared covariances (at least 0)",
            "target": "standard deviation an axis is to have (more than 0)",
            "epsilon": "added to variances before their root is taken (more than 0)",
        },
    ),
    "spread_out": LossInfo(
        "accord.losses.SpreadOut",
        "regulariser",
        "pairs of different classes are to look like random directions",
        "Zhang et al., ICCV 2017",
        2017,
    ),
}
